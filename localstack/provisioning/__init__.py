"""What `provision.py` is made of, and how queues that lost their messages are filled again."""
