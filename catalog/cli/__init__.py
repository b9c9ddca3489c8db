"""`gatehouse`, the command line. It knows the product only by its REST API, so this package imports nothing else of ours."""
