#!/bin/sh
# Generates the Java code of the contract: generate.sh FOLDER. pom.xml calls it.
#
# The contract is what these two write:
#
#   proton-gateway schema descriptor-set --output contract.binpb
#   proton-gateway schema protos --out proto
#
# Any protoc reads a descriptor set, also one that is older than what the .proto files use; their
# names are what is needed of them. Needs protoc and the plugin of grpc-java.
set -eu
plugin=$(command -v protoc-gen-grpc-java || command -v grpc_java_plugin)
mkdir -p "$1"
# The details of errors are generated too: older proto-google-common-protos lack ErrorInfo.
# shellcheck disable=SC2046 # one argument for each file
protoc --descriptor_set_in=contract.binpb \
  --plugin=protoc-gen-grpc-java="$plugin" --java_out="$1" --grpc-java_out="$1" \
  google/rpc/error_details.proto $(cd proto && find proton -name '*.proto' | sort)
