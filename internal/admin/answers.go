package admin

import (
	"time"

	"mirror/internal/mirror"
	"mirror/internal/oci"
)

// The bodies of the API's answers. docs/api.md documents every field; a test compares the two. Sizes are in bytes, times in
// RFC 3339, and what is not known is left out.

// Status says what a running mirror is doing.
type Status struct {
	Version   string           `json:"version"`
	Started   time.Time        `json:"started"`
	Cache     CacheStatus      `json:"cache"`
	Lookups   LookupStatus     `json:"lookups"`
	Traffic   TrafficStatus    `json:"traffic"`
	Fills     []FillStatus     `json:"fills"`
	Upstreams []UpstreamStatus `json:"upstreams"`
	Peers     *PeersStatus     `json:"peers,omitempty"` // nil without peers
}

// CacheStatus says what is held.
type CacheStatus struct {
	Limit   int64      `json:"limit"` // of disk and partial together
	Memory  TierStatus `json:"memory"`
	Disk    TierStatus `json:"disk"`
	Partial TierStatus `json:"partial"`
}

// TierStatus is what a tier holds.
type TierStatus struct {
	Bytes int64 `json:"bytes"`
	Blobs int64 `json:"blobs"`
}

// LookupStatus counts how requests for content went since the start.
type LookupStatus struct {
	Hit   int64 `json:"hit"`
	Miss  int64 `json:"miss"`
	Join  int64 `json:"join"`
	Stale int64 `json:"stale"`
	// HitRatio is the part that needed no download of its own: hit, join and stale of all. Zero when there was none.
	HitRatio float64 `json:"hit_ratio"`
}

// TrafficStatus counts bytes of bodies since the start.
type TrafficStatus struct {
	Served   int64 `json:"served"`
	Upstream int64 `json:"upstream"`
	// Saved is what clients got and upstreams did not have to send. It is negative after ranges of little use.
	Saved int64 `json:"saved"`
}

// FillStatus is a download that is running.
type FillStatus struct {
	Digest       oci.Digest `json:"digest"`
	Size         *int64     `json:"size,omitempty"`
	Received     int64      `json:"received"`
	Readers      int        `json:"readers"`
	Connections  int        `json:"connections"`     // over which it comes
	Ahead        bool       `json:"ahead,omitempty"` // nobody has asked for it yet
	Repositories []string   `json:"repositories"`
}

// TagList is a list of images.
type TagList struct {
	Tags []Tag `json:"tags"`
	// Next is what to give as last for the next page; empty at the end.
	Next string `json:"next,omitempty"`
	// Unreferenced is counted when everything is listed at once.
	Unreferenced *Unreferenced `json:"unreferenced,omitempty"`
}

// Tag is a tag, or a manifest that no tag names, with what is held of it.
type Tag struct {
	Repository string       `json:"repository"`
	Tag        string       `json:"tag,omitempty"`
	Digest     oci.Digest   `json:"digest"`
	MediaType  string       `json:"media_type,omitempty"`
	State      mirror.State `json:"state"`
	Size       int64        `json:"size"`
	Manifests  mirror.Count `json:"manifests"`
	Blobs      mirror.Count `json:"blobs"`
	Stored     time.Time    `json:"stored,omitzero"`
	Used       time.Time    `json:"used,omitzero"`
	Checked    time.Time    `json:"checked,omitzero"`
	Pinned     bool         `json:"pinned"`
}

// Unreferenced is the content that no manifest which is held refers to.
type Unreferenced struct {
	Blobs int   `json:"blobs"`
	Bytes int64 `json:"bytes"`
}

// BlobList is a list of contents.
type BlobList struct {
	Blobs []Blob `json:"blobs"`
	Next  string `json:"next,omitempty"`
}

// Blob is content that is held.
type Blob struct {
	Digest       oci.Digest `json:"digest"`
	Size         int64      `json:"size"`
	Stored       time.Time  `json:"stored"`
	Used         time.Time  `json:"used"`
	Pinned       bool       `json:"pinned"`
	Repositories []string   `json:"repositories"`
}

// Change is what a removal freed, or what a pin covers of what is held.
type Change struct {
	Reference string `json:"reference"` // what was changed, in full
	Blobs     int    `json:"blobs"`     // manifests included
	Bytes     int64  `json:"bytes"`
}

// Problem is the body of every answer that is no success.
type Problem struct {
	Error string `json:"error"`
	Hint  string `json:"hint,omitempty"` // what to do
}

// tagOf describes an image.
func tagOf(i mirror.Image) Tag {
	return Tag{
		Repository: i.Repository.String(), Tag: i.Tag, Digest: i.Descriptor.Digest, MediaType: i.Descriptor.MediaType,
		State: i.State, Size: i.Size, Manifests: i.Manifests, Blobs: i.Blobs,
		Stored: i.Stored.UTC(), Used: i.Used.UTC(), Checked: i.CheckedAt.UTC(), Pinned: i.Pinned,
	}
}

// blobOf describes content.
func blobOf(c mirror.Content) Blob {
	return Blob{
		Digest: c.Digest, Size: c.Size, Stored: c.Stored.UTC(), Used: c.Used.UTC(), Pinned: c.Pinned,
		Repositories: namesOf(c.Repositories),
	}
}

// namesOf is never nil, so that it is an empty list in JSON.
func namesOf(repositories []oci.Repository) []string {
	names := make([]string, len(repositories))
	for i, r := range repositories {
		names[i] = r.String()
	}
	return names
}
