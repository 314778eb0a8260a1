"""What the daemon gives up once it has mounted: docs/security.md says why each thing."""
