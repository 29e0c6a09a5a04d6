package upstream

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// helperTimeout bounds a helper. It must fit into the time that getting a credential has.
const helperTimeout = 5 * time.Second

// runHelper asks docker-credential-<name> for the credential of a server, in the protocol of Docker's helpers: the
// server's name on standard input, JSON on standard output. What the helper prints is never quoted, as it may hold the
// secret.
func runHelper(ctx context.Context, name, server string) (credential, error) {
	ctx, cancel := context.WithTimeout(ctx, helperTimeout)
	defer cancel()
	program := "docker-credential-" + name
	command := exec.CommandContext(ctx, program, "get")
	command.Stdin = strings.NewReader(server)
	command.WaitDelay = time.Second
	out, err := command.Output()
	if err != nil {
		return credential{}, fmt.Errorf("run %s get for %s: %w", program, server, err)
	}
	var answer struct{ Username, Secret string }
	if err := json.Unmarshal(out, &answer); err != nil || answer.Secret == "" {
		return credential{}, fmt.Errorf("run %s get for %s: the answer holds no secret", program, server)
	}
	if answer.Username == "<token>" {
		return credential{identity: answer.Secret}, nil
	}
	return credential{username: answer.Username, password: answer.Secret}, nil
}
