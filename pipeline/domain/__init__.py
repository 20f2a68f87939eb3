"""The rules of the service: sessions, jobs and voices, and the presigned URLs of previews."""
