#!/usr/bin/env bash
# What an operator does with grpcurl: grpcurl_walk.sh ADDRESS
set -uo pipefail
cd "$(dirname "$0")"
. ./checks.sh
address=$1

ask() { grpcurl -plaintext -max-time 10 "$@"; }
says() { # text, command
  local said
  said=$("${@:2}" 2>&1)
  case $said in *"$1"*) ;; *) echo "$said"; return 1 ;; esac
}

check "the services are listed" says proton.v1.ProtonService ask "$address" list
check "the operations are listed" says proton.v1.ProtonService.CreateEnvironment ask "$address" list proton.v1.ProtonService
check "an operation is described" says GetServiceRequest ask "$address" describe proton.v1.ProtonService.GetService
check "a message is described with its fields" says template_major_version ask "$address" describe proton.v1.CreateEnvironmentRequest
check "a template is created" says '"name": "curled"' \
  ask -d '{"name": "curled"}' "$address" proton.v1.ProtonService/CreateEnvironmentTemplate
check "it is read" says environment-template/curled \
  ask -d '{"name": "curled"}' "$address" proton.v1.ProtonService/GetEnvironmentTemplate
check "it is deleted" ask -d '{"name": "curled"}' "$address" proton.v1.ProtonService/DeleteEnvironmentTemplate
check "then it is not found, with the reason" says RESOURCE_NOT_FOUND \
  ask -d '{"name": "curled"}' "$address" proton.v1.ProtonService/GetEnvironmentTemplate
check "an empty request is told what is missing" says template_major_version \
  ask -d '{}' "$address" proton.v1.ProtonService/CreateEnvironment
check "the server is serving" says SERVING ask "$address" grpc.health.v1.Health/Check
finish
