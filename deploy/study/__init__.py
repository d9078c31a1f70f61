"""Studies: a plan of jobs, a ledger of what is done, a runner of processes, and the outcome."""
