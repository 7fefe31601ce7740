"""Everything that uses Ray: the driver, the workers, the cluster. No other folder imports ray."""
