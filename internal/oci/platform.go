package oci

import "encoding/json"

// Platform is what an image runs on, in the words of Go: linux, arm64, v8.
type Platform struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
	Variant      string `json:"variant"`
}

// String returns the platform as people write it: linux/arm64/v8.
func (p Platform) String() string {
	text := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		text += "/" + p.Variant
	}
	return text
}

// parsePlatform reads the platform of a descriptor, and the zero value from what is none.
func parsePlatform(text json.RawMessage) Platform {
	var p Platform
	if json.Unmarshal(text, &p) != nil {
		return Platform{}
	}
	return p
}

// maxPlatformWord is the longest word that a platform is taken for, in bytes. Real ones have a dozen.
const maxPlatformWord = 64

// known reports whether this is a platform at all: builders give "unknown" to what they attach to an image.
func (p Platform) known() bool {
	return p.OS != "" && p.OS != "unknown" && max(len(p.OS), len(p.Architecture), len(p.Variant)) <= maxPlatformWord
}
