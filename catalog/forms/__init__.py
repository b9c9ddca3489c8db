"""One plain form per act of the catalog. Rules are in the services; a form gives types and words."""
