"""Operations on a deployment, one command each: `make deploy`, `make deploy-worker`, and so on."""
