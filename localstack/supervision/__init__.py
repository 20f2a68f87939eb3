"""Child processes: started, checked, restarted, and stopped with their parent."""
