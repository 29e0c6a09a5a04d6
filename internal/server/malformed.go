package server

import (
	"errors"
	"net"
	"strings"

	"github.com/valyala/fasthttp"

	"mirror/internal/oci"
)

// answerMalformed answers a request that fasthttp could not or must not read: it closes the connection afterwards.
func (s *Server) answerMalformed(ctx *fasthttp.RequestCtx, err error) {
	x := s.begin(ctx)
	if !errors.Is(err, fasthttp.ErrGetOnly) && !errors.Is(err, fasthttp.ErrBodyTooLarge) {
		// The method may not have been read.
		x.rec.method = methodOther
	}
	r := refusalForMalformed(err)
	r.hangUp, r.cause = true, err
	x.refuse(r)
	x.end()
}

func refusalForMalformed(err error) *refusal {
	var tooSmall *fasthttp.ErrSmallBuffer
	var network net.Error
	switch {
	case errors.Is(err, fasthttp.ErrGetOnly):
		return &refusal{status: 405, code: oci.Unsupported, message: "this mirror is read-only: push to the registry itself"}
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		return &refusal{status: 413, code: oci.Unsupported, message: "the body is too large: a pull needs none"}
	case errors.As(err, &tooSmall):
		return &refusal{status: 431, code: oci.Unsupported, message: "the headers are longer than 32 KiB: send fewer"}
	case errors.As(err, &network) && network.Timeout():
		return &refusal{status: 408, code: oci.Unsupported, message: "the request did not arrive in time: send it again"}
	case badTarget(err):
		return &refusal{status: 400, code: oci.NameInvalid, message: "the address of the request is malformed"}
	}
	return &refusal{status: 400, code: oci.Unsupported, message: "the request is malformed"}
}

// badTarget reports whether the address in the request line is at fault. fasthttp says so in words only.
func badTarget(err error) bool {
	return errors.Is(err, fasthttp.ErrorInvalidURI) || strings.Contains(err.Error(), "invalid request uri")
}
