"""The processes that train together, what they exchange, and how networks are split over them."""
