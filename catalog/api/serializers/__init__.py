"""Bodies of the catalog's endpoints. Inputs refuse unknown fields; secrets go in and never come out."""
