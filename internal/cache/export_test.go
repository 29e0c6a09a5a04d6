package cache

// Operations are the labels of file operations.
var Operations = []string{
	string(opCreate), string(opOpen), string(opRead), string(opWrite), string(opTruncate),
	string(opSync), string(opRename), string(opUnlink), string(opSyncDir),
}

// SetFault makes file operations fail for which fault returns an error. Nothing may be going on in the cache meanwhile.
func (c *Cache) SetFault(fault func(operation string) error) {
	<-c.looked
	c.disk.fault = func(op operation) error { return fault(string(op)) }
}

// SetAbandonSize makes fills larger than n bytes stop when nobody reads them.
func (c *Cache) SetAbandonSize(n int64) { c.abandonSize = n }
