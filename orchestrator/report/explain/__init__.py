"""How a difference comes about: measured factors, whose shares add up to it exactly."""
