"""Files on disk -> Scan -> Volume: true geometry and units, or a refusal with its reason."""
