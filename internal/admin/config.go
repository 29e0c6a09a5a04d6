package admin

import (
	"fmt"
	"net"
	"strconv"
)

// Config says where operators are answered.
type Config struct {
	// Listen is the host:port of the admin listener. It has no authentication: keep it on loopback or a private network.
	Listen string `yaml:"listen"`
}

// Validate tells what is wrong with the values; it opens no port.
func (c Config) Validate() error {
	_, port, err := net.SplitHostPort(c.Listen)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fmt.Errorf("listen: got %q, want host:port such as 127.0.0.1:5001", c.Listen)
	}
	return nil
}
