# What whoever applies this reports back, and what service templates read.

output "key_arn" {
  description = "Key with which services encrypt their buckets"
  value       = aws_kms_key.storage.arn
}

output "access_log_bucket" {
  description = "Bucket for the access logs of services' buckets"
  value       = aws_s3_bucket.access_log.id
}
