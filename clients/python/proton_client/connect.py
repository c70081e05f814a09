"""A channel to the gateway: TLS, a token with each call, and what may be retried."""

import os
from pathlib import Path
from urllib.parse import urlsplit

import grpc


class BearerToken(grpc.AuthMetadataPlugin):
    """Reads the token anew for each call, so that it may be replaced while the program runs."""

    def __init__(self, file: Path):
        self._file = file

    def __call__(self, context, callback):
        try:
            token = self._file.read_text().strip()
        except OSError as error:
            callback((), error)
        else:
            callback((("authorization", f"Bearer {token}"),), None)


def connect(
    address: str,
    *,
    ca_file: str | None = None,
    token_file: str | None = None,
    service_config: str | None = None,
) -> grpc.Channel:
    """Opens a channel to `address`, an http:// or https:// URL.

    `service_config` is what `proton-gateway schema service-config` prints.
    """
    url = urlsplit(address)
    options = [
        # A connection on which nothing comes back any more is given up, so that waits notice.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
    ]
    if service_config:
        options.append(("grpc.service_config", service_config))
    if url.scheme == "http":
        if token_file:
            raise ValueError("a token is not sent over plain text: give an https:// address")
        return grpc.insecure_channel(url.netloc, options)
    if url.scheme != "https":
        raise ValueError(f"{address} is neither an http:// nor an https:// address")
    roots = Path(ca_file).read_bytes() if ca_file else None
    credentials = grpc.ssl_channel_credentials(root_certificates=roots)
    if token_file:
        token = grpc.metadata_call_credentials(BearerToken(Path(token_file)))
        credentials = grpc.composite_channel_credentials(credentials, token)
    return grpc.secure_channel(url.netloc, credentials, options)


def connect_from_environment() -> grpc.Channel:
    """The same variables as those of `proton-gateway wait`, and one for the service config."""
    config = os.environ.get("PROTON_GATEWAY_SERVICE_CONFIG")
    return connect(
        os.environ.get("PROTON_GATEWAY_ADDRESS", "http://127.0.0.1:50051"),
        ca_file=os.environ.get("PROTON_GATEWAY_CA_FILE"),
        token_file=os.environ.get("PROTON_GATEWAY_TOKEN_FILE"),
        service_config=Path(config).read_text() if config else None,
    )
