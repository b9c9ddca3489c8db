"""What the gateway's benchmark runs beside the plane, and how it loads them."""
