"""Child processes: started, checked, restarted, and stopped with whoever started them."""
