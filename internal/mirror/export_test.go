package mirror

// PruneNames forgets names whose content is gone as the upkeep does, without its patience.
func (m *Mirror) PruneNames() { m.pruneNames(0, 0) }
