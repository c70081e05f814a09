# The variables `environment`, `service` and `service_instance` come from whoever renders this.

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
  inputs = var.service_instance.inputs
  # An optional input without a default is absent, not null.
  expire_after_days = try(local.inputs.expire_after_days, null)
}

resource "aws_s3_bucket" "this" {
  bucket_prefix = lower("${var.service.name}-${var.service_instance.name}-")

  tags = {
    purpose = local.inputs.purpose
  }
}

resource "aws_s3_bucket_public_access_block" "this" {
  bucket                  = aws_s3_bucket.this.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  bucket = aws_s3_bucket.this.id

  rule {
    bucket_key_enabled = true

    apply_server_side_encryption_by_default {
      sse_algorithm     = "aws:kms"
      kms_master_key_id = var.environment.outputs.key_arn
    }
  }
}

resource "aws_s3_bucket_versioning" "this" {
  bucket = aws_s3_bucket.this.id

  versioning_configuration {
    status = local.inputs.versioned ? "Enabled" : "Suspended"
  }
}

resource "aws_s3_bucket_logging" "this" {
  bucket        = aws_s3_bucket.this.id
  target_bucket = var.environment.outputs.access_log_bucket
  target_prefix = "${var.service.name}/${var.service_instance.name}/"
}

resource "aws_s3_bucket_lifecycle_configuration" "this" {
  count  = local.expire_after_days == null ? 0 : 1
  bucket = aws_s3_bucket.this.id

  rule {
    id     = "expire"
    status = "Enabled"

    filter {}

    expiration {
      days = local.expire_after_days
    }
  }
}
