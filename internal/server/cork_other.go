//go:build !linux

package server

func (c *conn) cork(bool) {}
