package signin

import (
	"bufio"
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// keys finds the keys to sign with, in the order of AWS's own tools. What is configured and does not work is an error,
// rather than a reason to go on and sign in as somebody else.
func (e *ecr) keys(ctx context.Context) (awsKeys, error) {
	getenv := e.platform.Getenv
	if id, secret := getenv("AWS_ACCESS_KEY_ID"), getenv("AWS_SECRET_ACCESS_KEY"); id != "" && secret != "" {
		return awsKeys{id: id, secret: secret, session: getenv("AWS_SESSION_TOKEN")}, nil
	}
	if file, role := getenv("AWS_WEB_IDENTITY_TOKEN_FILE"), getenv("AWS_ROLE_ARN"); file != "" && role != "" {
		return e.fromWebIdentity(ctx, file, role)
	}
	if keys, found, err := e.fromFile(); found || err != nil {
		return keys, err
	}
	if full, relative := getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI"), getenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"); full != "" || relative != "" {
		return e.fromContainer(ctx, full, relative)
	}
	if strings.EqualFold(getenv("AWS_EC2_METADATA_DISABLED"), "true") {
		return awsKeys{}, errors.New("there are none in the environment or files, and AWS_EC2_METADATA_DISABLED forbids to ask for the instance's role: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the mirror a role")
	}
	return e.fromInstance(ctx)
}

// fromWebIdentity trades the token that Kubernetes wrote to a file for a session of a role. The call is not signed: the
// token is the proof.
func (e *ecr) fromWebIdentity(ctx context.Context, file, role string) (awsKeys, error) {
	token, err := readSecret("AWS_WEB_IDENTITY_TOKEN_FILE", file)
	if err != nil {
		return awsKeys{}, err
	}
	form := url.Values{
		"Action": {"AssumeRoleWithWebIdentity"}, "Version": {"2011-06-15"}, "RoleArn": {role},
		"RoleSessionName": {orDefault(e.platform.Getenv("AWS_ROLE_SESSION_NAME"), "mirror")}, "WebIdentityToken": {token},
	}
	base := strings.TrimRight(orDefault(e.config.STSEndpoint, e.name.sts()), "/")
	a, err := ask(ctx, e.platform.Cloud, post(base+"/", form))
	if err != nil {
		return awsKeys{}, err
	}
	if a.status != http.StatusOK {
		code, message := stsError(a.body)
		return awsKeys{}, fmt.Errorf("assume %s: %w", role, a.refusal(code, message, token))
	}
	return readSession(a)
}

func readSession(a answer) (awsKeys, error) {
	var form struct {
		Result struct {
			Credentials struct {
				AccessKeyID     string `xml:"AccessKeyId"`
				SecretAccessKey string
				SessionToken    string
			}
		} `xml:"AssumeRoleWithWebIdentityResult"`
	}
	// The decoder's message may quote the answer.
	if err := xml.Unmarshal(a.body, &form); err != nil || form.Result.Credentials.AccessKeyID == "" {
		return awsKeys{}, fmt.Errorf("read answer of %s: no credentials in it", a.from)
	}
	found := form.Result.Credentials
	return awsKeys{id: found.AccessKeyID, secret: found.SecretAccessKey, session: found.SessionToken}, nil
}

// stsError reads an error of the session service.
func stsError(body []byte) (code, message string) {
	var form struct {
		Error struct{ Code, Message string }
	}
	if err := xml.Unmarshal(body, &form); err != nil {
		return "", ""
	}
	return form.Error.Code, form.Error.Message
}

// fromFile looks into the shared credentials file. It is an error only when the file or profile was asked for by name.
func (e *ecr) fromFile() (keys awsKeys, found bool, err error) {
	getenv := e.platform.Getenv
	file := orDefault(e.config.CredentialsFile, getenv("AWS_SHARED_CREDENTIALS_FILE"))
	profile := orDefault(e.config.Profile, getenv("AWS_PROFILE"))
	wanted := file != "" || profile != ""
	if file == "" {
		home := getenv("HOME")
		if home == "" && !wanted {
			return awsKeys{}, false, nil
		}
		file = filepath.Join(home, ".aws", "credentials")
	}
	content, err := os.ReadFile(file)
	if err != nil {
		if !wanted && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)) {
			return awsKeys{}, false, nil
		}
		return awsKeys{}, false, fmt.Errorf("read shared credentials file: %w", err)
	}
	profile = orDefault(profile, "default")
	keys = parseProfile(content, profile)
	if keys.id != "" && keys.secret != "" {
		return keys, true, nil
	}
	if wanted {
		return awsKeys{}, false, fmt.Errorf("%s has no aws_access_key_id and aws_secret_access_key in its profile [%s]", file, profile)
	}
	return awsKeys{}, false, nil
}

// parseProfile reads one section of a shared credentials file.
func parseProfile(content []byte, profile string) awsKeys {
	var keys awsKeys
	here := false
	for lines := bufio.NewScanner(bytes.NewReader(content)); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		if section, ok := strings.CutPrefix(line, "["); ok {
			here = strings.TrimSpace(strings.TrimSuffix(section, "]")) == profile
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !here || !ok {
			continue
		}
		switch value = strings.TrimSpace(value); strings.TrimSpace(name) {
		case "aws_access_key_id":
			keys.id = value
		case "aws_secret_access_key":
			keys.secret = value
		case "aws_session_token":
			keys.session = value
		}
	}
	return keys
}
