#!/usr/bin/env bash
# Builds the example clients as their users would, and runs them: run.sh BINARY
#
# They call one gateway with TLS, a token each and the service config that the binary prints. What
# each says must be what stands in expected.txt. A language whose tools cannot be had is skipped.
# What is built is kept below target/clients, and built anew when its sources or the contract have
# changed.
set -uo pipefail
binary=$(realpath "${1:?usage: run.sh BINARY}")
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../tests/clients/checks.sh"
work=$here/../target/clients
mkdir -p "$work"
work=$(realpath "$work")
temp=$(mktemp -d)
gateway=''
stop() {
  if test -n "$gateway"; then
    kill "$gateway" 2>/dev/null
    wait "$gateway" 2>/dev/null
  fi
  gateway=''
}
trap 'stop; rm -rf "$temp"' EXIT
trap 'exit 130' INT TERM
export PYTHONDONTWRITEBYTECODE=1

# The contract, as a user gets it.
contract=$temp/contract
mkdir "$contract"
"$binary" schema protos --out "$contract/proto" &&
  "$binary" schema descriptor-set --output "$contract/contract.binpb" &&
  "$binary" schema service-config --output "$contract/service-config.json" || exit 1
export PROTON_GATEWAY_SERVICE_CONFIG=$contract/service-config.json

# packages PROGRAM-OR-FILE PACKAGE…: installs Debian's packages unless the first is there.
packages() {
  command -v "$1" >/dev/null || test -e "$1" && return
  test "$(id -u)" = 0 && command -v apt-get >/dev/null || return
  { apt-get update -q && apt-get install -qy --no-install-recommends "${@:2}"; } >"$temp/apt" 2>&1
}

# The copy of a client's folder in which it is built.
folder() {
  case $1 in
  go) echo "$work/gopath/src/example.com/proton-client" ;;
  *) echo "$work/$1" ;;
  esac
}

# Each of these runs in that folder.
tools_python() {
  python3 -c 'import ensurepip, venv' || packages /nonexistent python3 python3-venv &&
    python3 -c 'import ensurepip, venv'
}
fetch_python() {
  test -x venv/bin/python || python3 -m venv venv || return
  # What it needs, what it is built with, and what checks its format.
  venv/bin/pip install --quiet --disable-pip-version-check setuptools==84.2.1 \
    grpcio-tools==1.85.1 ruff==0.17.6 $(sed -n 's/^    "\(.*==.*\)",$/\1/p' pyproject.toml)
}
build_python() {
  venv/bin/ruff check -q && venv/bin/ruff format -q --check &&
    venv/bin/pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps \
      --force-reinstall .
}
test_python() { venv/bin/python -m unittest discover -s tests; }
walk_python() { venv/bin/proton-walk python; }

tools_go() {
  packages /usr/share/gocode/src/google.golang.org/grpc golang-go golang-google-grpc-dev \
    golang-github-golang-protobuf-1-5-dev protobuf-compiler protoc-gen-go-1-5 protoc-gen-go-grpc
  command -v go protoc protoc-gen-go protoc-gen-go-grpc >/dev/null &&
    test -e /usr/share/gocode/src/google.golang.org/grpc
}
build_go() {
  # Debian's sources take the place of modules, which would have to be fetched.
  export GO111MODULE=off GOPATH=$work/gopath:/usr/share/gocode GOCACHE=$work/gocache
  test -z "$(gofmt -l cmd gateway | tee >(cat >&2))" && ./generate.sh &&
    go vet ./gateway ./cmd/proton-walk && go build -o walk ./cmd/proton-walk &&
    go test -c -o retries ./gateway
}
test_go() { GRPC_GO_RETRY=on ./retries; }
walk_go() { GRPC_GO_RETRY=on ./walk go; }

tools_typescript() { command -v npm >/dev/null; }
fetch_typescript() { npm ci --silent --no-audit --no-fund; }
build_typescript() {
  node_modules/.bin/prettier --check --log-level warn src test &&
    npm run -s generate && npm run -s build
}
test_typescript() { npm test -s; }
walk_typescript() { npm start -s typescript; }

tools_java() {
  packages /usr/share/maven-repo/io/netty/netty-tcnative default-jdk-headless maven libgrpc-java \
    protobuf-compiler protobuf-compiler-grpc-java-plugin libprotobuf-java \
    libgoogle-common-protos-java libnetty-java libnetty-tcnative-java \
    libgoogle-gson-java libperfmark-java libanimal-sniffer-java libgeronimo-annotation-1.3-spec-java libexec-maven-plugin-java \
    libbuild-helper-maven-plugin-java libmaven-compiler-plugin-java \
    libmaven-resources-plugin-java junit5
  command -v mvn javac protoc grpc_java_plugin >/dev/null &&
    test -e /usr/share/maven-repo/io/netty/netty-tcnative
}
# Debian's packages take the place of Maven's repository.
maven() { mvn -B -q -s "$here/java/debian.xml" -Pdebian -Dmaven.repo.local="$work/m2" "$@"; }
build_java() {
  # Debian's Netty looks for its library by another name than it has.
  mkdir -p jni && cp /usr/lib/*/jni/libnetty-tcnative.so jni/libnetty_tcnative.so && maven -U test-compile
}
test_java() {
  MAVEN_OPTS=-Djava.library.path=jni maven -o exec:java -Dexec.classpathScope=test \
    -Dexec.mainClass=org.junit.platform.console.ConsoleLauncher \
    -Dexec.args='--disable-banner --details=tree --fail-if-no-tests --scan-classpath target/test-classes'
}
walk_java() {
  # Maven resets colours that nobody has set.
  set -o pipefail
  MAVEN_OPTS=-Djava.library.path=jni maven -o exec:java -Dexec.args=java |
    sed 's/\x1b\[[0-9;]*m//g; /^$/d'
}

# in_folder LANGUAGE SECONDS FUNCTION
export here work
export -f maven test_python test_go test_typescript test_java walk_python walk_go walk_typescript walk_java
in_folder() { (cd "$(folder "$1")" && timeout "$2" bash -c "$3"); }

# prepare LANGUAGE: builds it, unless what is there was built from the same.
prepare() {
  local stamp
  if declare -F "tools_$1" >/dev/null && ! "tools_$1" >"$temp/tools" 2>&1; then
    return 77
  fi
  stamp=$(cd "$here" && git ls-files -co --exclude-standard "$1" | grep -v README | xargs sha256sum |
    cat - <(sha256sum <"$contract/contract.binpb") | sha256sum)
  mkdir -p "$(folder "$1")"
  cd "$(folder "$1")" || return
  test "$(cat stamp 2>/dev/null)" = "$stamp" && return
  rm -f stamp
  (cd "$here" && git ls-files -co --exclude-standard "$1") | sed "s|^$1/||" |
    tar -C "$here/$1" -cf - -T - | tar -xf - &&
    rm -rf proto && cp -r "$contract/proto" "$contract/contract.binpb" . || return
  if declare -F "fetch_$1" >/dev/null && ! "fetch_$1"; then
    return 78
  fi
  "build_$1" && echo "$stamp" >stamp
}

languages=()
for language in python go typescript java; do
  begun=$SECONDS
  (prepare "$language") >"$temp/build" 2>&1
  case $? in
  0)
    check "$language is built ($((SECONDS - begun)) s)" true
    languages+=("$language")
    ;;
  77) skip "$language" "its tools are not installed, and cannot be installed here" ;;
  78) skip "$language" "what it needs cannot be fetched here" ;;
  *) check "$language is built" sh -c "tail -n 30 '$temp/build'; false" ;;
  esac
done

# The service config at work, before servers that fail at first.
for language in "${languages[@]}"; do
  if declare -F "test_$language" >/dev/null; then
    check "$language repeats what may be repeated, and nothing else" \
      in_folder "$language" 60 "test_$language"
  fi
done

# A certificate of an authority of our own, as a company would have it.
(
  cd "$temp" || exit
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj '/CN=Example CA' \
    -keyout ca.key -out ca.pem
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj '/CN=gateway' \
    -keyout gateway.key -out gateway.csr
  openssl x509 -req -in gateway.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out gateway.pem \
    -extfile <(echo 'subjectAltName = DNS:localhost, IP:127.0.0.1')
) >"$temp/openssl" 2>&1 || { cat "$temp/openssl"; exit 1; }
{
  printf '[tls]\ncertificate-file = "%s"\nkey-file = "%s"\n' "$temp/gateway.pem" "$temp/gateway.key"
  printf '[authentication]\nmethods = ["token"]\n'
  for language in python go typescript java; do
    "$binary" token new --id "$language" --role administrator >"$temp/token"
    sed -n 2p "$temp/token" >"$temp/$language.token"
    sed '1,4d' "$temp/token"
  done
  # So that this one update costs more than anybody has left.
  printf '[limits]\nwrite = { rate = "6/m", burst = 50 }\n'
  printf '[limits.costs]\nUpdateEnvironmentTemplate = 50\n'
} >"$temp/gateway.toml"
"$binary" --config "$temp/gateway.toml" --listen 127.0.0.1:0 --aws-listen off \
  --admin-listen 127.0.0.1:0 --state-dir "$temp/state" --simulated-step 5s \
  --ready-file "$temp/ready.json" >"$temp/log" 2>&1 &
gateway=$!
for _ in $(seq 300); do
  test -e "$temp/ready.json" && break
  kill -0 "$gateway" 2>/dev/null || break
  sleep 0.1
done
if ! test -e "$temp/ready.json"; then
  check "the gateway starts" sh -c "cat '$temp/log'; false"
  finish
fi
port=$(grep -o '"grpc": *"[^"]*' "$temp/ready.json" | sed 's/.*://')
export PROTON_GATEWAY_ADDRESS=https://localhost:$port PROTON_GATEWAY_CA_FILE=$temp/ca.pem

# All at the same time: most of it is waiting.
walks=()
for language in "${languages[@]}"; do
  PROTON_GATEWAY_TOKEN_FILE=$temp/$language.token in_folder "$language" 90 "walk_$language" \
    >"$temp/$language.out" 2>"$temp/$language.err" &
  walks+=($!)
done
for index in "${!walks[@]}"; do
  language=${languages[$index]}
  code=0
  wait "${walks[$index]}" || code=$?
  sed "s/NAME/$language/" "$here/expected.txt" >"$temp/expected"
  if test $code = 0; then
    check "$language says what is expected" diff "$temp/expected" "$temp/$language.out"
  else
    check "$language ends well" sh -c "echo 'exit code $code'; tail -n 8 '$temp/$language.out' '$temp/$language.err'; false"
  fi
done
test "$failed" = 0 || tail -n 20 "$temp/log"
stop
finish
