"""The rules of the pack on files: Kubernetes YAML and what Pulumi writes as JSON."""
