"""What the daemon gives up once it has mounted; docs/security.md has the reasons."""
