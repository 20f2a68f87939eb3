"""What the embedded SQS does beside ministack: fair groups, and polls that wait."""
