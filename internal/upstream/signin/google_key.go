package signin

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// serviceAccount is what is used of a key file.
type serviceAccount struct {
	Type         string `json:"type"`
	ClientEmail  string `json:"client_email"`
	PrivateKeyID string `json:"private_key_id"`
	PrivateKey   string `json:"private_key"`
	TokenURI     string `json:"token_uri"`

	signer *rsa.PrivateKey
}

// readServiceAccount reads a key file. No error repeats its content.
func readServiceAccount(file string) (serviceAccount, error) {
	content, err := readFile("key_file", file)
	if err != nil {
		return serviceAccount{}, err
	}
	var key serviceAccount
	if err := json.Unmarshal(content, &key); err != nil {
		return serviceAccount{}, fmt.Errorf("read key_file: %s is not JSON", file)
	}
	if key.Type != "service_account" {
		return serviceAccount{}, fmt.Errorf("read key_file: %s is not the key of a service account: create one, or leave key_file out to use the metadata service", file)
	}
	if key.signer, err = parseRSA(key.PrivateKey); err != nil || key.ClientEmail == "" {
		return serviceAccount{}, fmt.Errorf("read key_file: %s holds no usable client_email and RSA private_key", file)
	}
	return key, nil
}

func parseRSA(text string) (*rsa.PrivateKey, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("no PEM block")
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	signer, ok := key.(*rsa.PrivateKey)
	if !ok {
		return nil, errors.New("not an RSA key")
	}
	return signer, nil
}

const (
	// claimLife is how long a claim is good: the longest that Google takes is an hour.
	claimLife = 10 * time.Minute
	// claimEarly is by how much a claim is dated back, because one from the future is refused at once.
	claimEarly = time.Minute
)

// claim returns a signed statement of who the account is (a JSON web token, RFC 7519, signed with RS256).
func (k serviceAccount) claim(audience string, now time.Time) (string, error) {
	header, err := segment(map[string]any{"alg": "RS256", "typ": "JWT", "kid": k.PrivateKeyID})
	if err != nil {
		return "", err
	}
	body, err := segment(map[string]any{
		"iss": k.ClientEmail, "scope": googleScope, "aud": audience,
		"iat": now.Add(-claimEarly).Unix(), "exp": now.Add(claimLife).Unix(),
	})
	if err != nil {
		return "", err
	}
	text := header + "." + body
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, k.signer, crypto.SHA256, sum[:])
	if err != nil {
		return "", fmt.Errorf("sign with the private key of key_file: %w", err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

func segment(content map[string]any) (string, error) {
	text, err := json.Marshal(content)
	return base64.RawURLEncoding.EncodeToString(text), err
}
