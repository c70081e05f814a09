#!/usr/bin/env bash
# The AWS CLI, told nothing but AWS_ENDPOINT_URL_PROTON: aws_cli_walk.sh ENDPOINT EXAMPLES
set -uo pipefail
cd "$(dirname "$0")"
. ./checks.sh

export AWS_ENDPOINT_URL_PROTON=$1
examples=$2
export AWS_ACCESS_KEY_ID=example AWS_SECRET_ACCESS_KEY=example AWS_DEFAULT_REGION=us-east-1
export AWS_PAGER='' AWS_MAX_ATTEMPTS=1 AWS_CONFIG_FILE=/dev/null AWS_SHARED_CREDENTIALS_FILE=/dev/null
role=arn:aws:iam::123456789012:role/proton
connection=arn:aws:codestar-connections:us-east-1:123456789012:connection/01234567-89ab-cdef-0123-456789abcdef
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

proton() { aws proton --output json "$@"; }
# What one field of an answer says.
field() { proton "${@:2}" --query "$1" --output text; }
is() { test "$(field "${@:2}")" = "$1"; }
register() { # kind, template, bundle, further arguments
  proton "create-$1-template-version" --template-name "$2" \
    --source "s3={bucket=proton-examples,key=$3.tar.gz}" "${@:4}" >"$scratch/answer" &&
    proton wait "$1-template-version-registered" --template-name "$2" --major-version 1 --minor-version 0 &&
    proton "update-$1-template-version" --template-name "$2" --major-version 1 --minor-version 0 \
      --status PUBLISHED >"$scratch/answer"
}
# Runs until it succeeds; there is no waiter for it.
eventually() { for _ in $(seq 30); do "$@" && return; sleep 0.2; done; return 1; }
refused() { # exception, command
  local said
  if said=$("${@:2}" 2>&1); then echo "accepted: $said" >&2; return 1; fi
  case $said in *"($1)"*) ;; *) echo "$said" >&2; return 1 ;; esac
}
gone() { eventually refused ResourceNotFoundException "$@"; }

check "an environment template is created" \
  proton create-environment-template --name cli-bus
check "its version is registered and published" \
  register environment cli-bus environment-cloudformation
check "an environment is created" \
  proton create-environment --name cli-events --template-name cli-bus --template-major-version 1 \
  --proton-service-role-arn "$role" --spec "file://$examples/specs/environment-cloudformation.yaml"
check "the CLI waits until it is deployed" \
  proton wait environment-deployed --name cli-events
check "its deployment has succeeded" \
  is SUCCEEDED environment.deploymentStatus get-environment --name cli-events
check "it says that nothing was provisioned" \
  is 'Simulated: nothing was provisioned.' environment.deploymentStatusMessage get-environment --name cli-events

check "a service template is created" \
  proton create-service-template --name cli-worker
check "its version is registered and published" \
  register service cli-worker service-cloudformation \
  --compatible-environment-templates templateName=cli-bus,majorVersion=1
check "the role of pipelines is set" \
  proton update-account-settings --pipeline-service-role-arn "$role"
sed 's/environment: events/environment: cli-events/' "$examples/specs/service-cloudformation.yaml" >"$scratch/spec.yaml"
check "a service is created" \
  proton create-service --name cli-orders --template-name cli-worker --template-major-version 1 \
  --repository-connection-arn "$connection" --repository-id example/orders --branch-name main \
  --spec "file://$scratch/spec.yaml"
check "the CLI waits until it is created" \
  proton wait service-created --name cli-orders

# What the pipeline in examples/service-cloudformation does for each instance.
ship() {
  field service.spec get-service --name cli-orders >"$scratch/current.yaml" &&
    sed "s/log_level: DEBUG/image: registry.example\/orders:42/" "$scratch/current.yaml" >"$scratch/next.yaml" &&
    proton update-service-instance --service-name cli-orders --name canary \
      --deployment-type CURRENT_VERSION --spec "file://$scratch/next.yaml" >"$scratch/answer" &&
    proton wait service-instance-deployed --service-name cli-orders --name canary
}
check "a pipeline ships an image to an instance" ship
# Not -q: a reader that leaves early makes the CLI complain of a broken pipe.
has_image() { field service.spec get-service --name cli-orders | grep 'image: registry.example/orders:42' >/dev/null; }
check "the service's spec then has the image" has_image

check "deployments are listed in pages" \
  proton list-deployments --service-name cli-orders --page-size 1 --max-items 3
check "a tag is added" \
  proton tag-resource --resource-arn "$(field environment.arn get-environment --name cli-events)" --tags key=by,value=cli
check "what does not exist is a ResourceNotFoundException" \
  refused ResourceNotFoundException proton get-service --name nothing
check "an environment in use is a ConflictException" \
  refused ConflictException proton delete-environment --name cli-events
check "a name that is not allowed is a ValidationException" \
  refused ValidationException proton create-service-template --name wrong.name

check "the service is deleted" proton delete-service --name cli-orders
check "the CLI waits until it is gone" proton wait service-deleted --name cli-orders
check "the environment is deleted" proton delete-environment --name cli-events
check "and then it is gone" gone proton get-environment --name cli-events
for kind in service environment; do
  name=cli-worker
  test "$kind" = environment && name=cli-bus
  check "the version of the $kind template is deleted" \
    proton "delete-$kind-template-version" --template-name "$name" --major-version 1 --minor-version 0
  check "the $kind template is deleted" proton "delete-$kind-template" --name "$name"
done
finish
