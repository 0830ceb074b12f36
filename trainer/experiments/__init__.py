"""Lists of trainings and measurements, and what runs them."""
