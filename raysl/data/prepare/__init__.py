"""From any pile of images to sharded Parquet that trains fast: `raysl data prepare`."""
