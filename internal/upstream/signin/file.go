package signin

import (
	"fmt"
	"os"
	"strings"
)

// maxSecretFile bounds a file that holds a token or key, in bytes.
const maxSecretFile = 64 << 10

// readSecret reads a file that holds one secret, whatever stands around it. what names the setting that names the file.
func readSecret(what, name string) (string, error) {
	content, err := readFile(what, name)
	if err != nil {
		return "", err
	}
	text := strings.TrimSpace(string(content))
	if text == "" {
		return "", fmt.Errorf("read %s: %s is empty", what, name)
	}
	if strings.ContainsAny(text, "\r\n") {
		return "", fmt.Errorf("read %s: %s has more than one line", what, name)
	}
	return text, nil
}

func readFile(what, name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	if info.Size() > maxSecretFile {
		return nil, fmt.Errorf("read %s: %s has %d bytes, which is too long for it", what, name, info.Size())
	}
	content, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	return content, nil
}
