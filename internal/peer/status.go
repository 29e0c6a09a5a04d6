package peer

// Standing is a member as this node sees it now.
type Standing struct {
	Member
	// Self is this node. PassedOver: it did not answer a moment ago, or somebody said so.
	Self, PassedOver bool
}

// Members lists all members, sorted by name.
func (e *Exchange) Members() []Standing {
	v := e.cluster.View()
	list := make([]Standing, 0, len(v.Members()))
	for _, m := range v.Members() {
		list = append(list, Standing{Member: *m, Self: m.Name == v.Self().Name, PassedOver: v.Passed(m.Name)})
	}
	return list
}
