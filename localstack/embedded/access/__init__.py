"""Which requests the embedded AWS answers: signatures, upload forms, origins."""
