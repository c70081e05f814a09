#!/bin/sh
# Generates the Go code of the contract out of what these two write:
#
#   proton-gateway schema descriptor-set --output contract.binpb
#   proton-gateway schema protos --out proto
#
# Any protoc reads a descriptor set, also one that is older than what the .proto files use; their
# names are what is needed of them. Needs protoc, protoc-gen-go and protoc-gen-go-grpc.
set -eu
cd "$(dirname "$0")"
files=$(cd proto && find proton -name '*.proto' | sort)
module=$(sed -n 's/^module //p' go.mod)
options=module=$module
for file in $files; do
	# The contract does not say where its Go code lives: that is up to whoever generates it.
	folder=$(dirname "$file")
	options="$options,M$file=$module/gen/$folder;$(echo "$folder" | tr -d /)"
done
rm -rf gen
# shellcheck disable=SC2086 # one argument for each file
protoc --descriptor_set_in=contract.binpb \
	--go_out=. --go_opt="$options" --go-grpc_out=. --go-grpc_opt="$options" $files
