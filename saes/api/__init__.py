"""The REST API below /api/v1/: the guide's endpoints over the services that pages use, too."""
