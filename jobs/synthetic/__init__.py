FEWEST_PERSONS = 3_000  # those of the study, and as many others as make it look like a register
