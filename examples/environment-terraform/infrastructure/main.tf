# The inputs are not declared here: whoever renders this folder adds the variable `environment`.

terraform {
  required_version = ">= 1.5"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

locals {
  tags = {
    environment = var.environment.name
    cost_center = var.environment.inputs.cost_center
  }
}

resource "aws_kms_key" "storage" {
  description         = "Buckets of the environment ${var.environment.name}"
  enable_key_rotation = var.environment.inputs.rotate_key
  tags                = local.tags
}

resource "aws_s3_bucket" "access_log" {
  bucket_prefix = "access-log-"
  tags          = local.tags
}

resource "aws_s3_bucket_public_access_block" "access_log" {
  bucket                  = aws_s3_bucket.access_log.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_lifecycle_configuration" "access_log" {
  bucket = aws_s3_bucket.access_log.id

  rule {
    id     = "expire"
    status = "Enabled"

    filter {}

    expiration {
      days = var.environment.inputs.log_retention_days
    }
  }
}
