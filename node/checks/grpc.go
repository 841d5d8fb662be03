// SPDX-License-Identifier: Apache-2.0

package checks

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"tacit/node/definition"
)

// tryGRPC makes the one unary call Check of grpc.health.v1.Health. The protocol
// is that of gRPC over HTTP/2 (PROTOCOL-HTTP2.md): a whole gRPC library would
// make the daemon larger by a third for it.
func (m *Manager) tryGRPC(ctx context.Context, c *check) (status, output string) {
	service := c.GRPCService()
	reply, err := m.callHealth(ctx, c, service)
	if err != nil {
		return critical(err)
	}
	serving, err := servingStatus(reply)
	if err != nil {
		return critical(err)
	}
	name := cmp.Or(service, "the server")
	if serving == 1 {
		return definition.StatusPassing, name + ": SERVING"
	}
	text := map[uint64]string{0: "UNKNOWN", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}[serving]
	return definition.StatusCritical, name + ": " + cmp.Or(text, strconv.FormatUint(serving, 10))
}

func (m *Manager) callHealth(ctx context.Context, c *check, service string) ([]byte, error) {
	url := "http://"
	transport := m.transport(c)
	transport.Protocols = new(http.Protocols)
	transport.Protocols.SetUnencryptedHTTP2(!c.TLS.Use)
	transport.Protocols.SetHTTP2(c.TLS.Use)
	if c.TLS.Use {
		url = "https://"
	}
	targets, _, err := m.targets(c)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+targets[0].String()+"/grpc.health.v1.Health/Check", bytes.NewReader(message(service)))
	if err != nil {
		return nil, err
	}
	req.Header = http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}, "User-Agent": {"tacit health check"}}
	defer transport.CloseIdleConnections()
	res, err := transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	reply, err := io.ReadAll(io.LimitReader(res.Body, maxOutput))
	if err != nil {
		return nil, err
	}
	return reply, grpcStatus(res)
}

// grpcStatus is the error that a server reports, after the answer or, where
// there is none, in the header.
func grpcStatus(res *http.Response) error {
	code, text := res.Trailer.Get("Grpc-Status"), res.Trailer.Get("Grpc-Message")
	if code == "" {
		code, text = res.Header.Get("Grpc-Status"), res.Header.Get("Grpc-Message")
	}
	switch code {
	case "0":
		return nil
	case "":
		return fmt.Errorf("%s: no gRPC server answers there", res.Status)
	case "5":
		return fmt.Errorf("the health server doesn't know that service (gRPC status 5: %.200s)", text)
	case "12":
		return fmt.Errorf("the server has no grpc.health.v1.Health service (gRPC status 12: %.200s)", text)
	}
	return fmt.Errorf("gRPC status %.20s: %.200s", code, text)
}

// message is a HealthCheckRequest, whose field 1 is the service, behind the
// prefix of a gRPC message: a byte for no compression, and the length.
func message(service string) []byte {
	var body []byte
	if service != "" {
		body = binary.AppendUvarint([]byte{1<<3 | 2}, uint64(len(service)))
		body = append(body, service...)
	}
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(body))), body...)
}

var errReply = errors.New("the answer is no HealthCheckResponse")

// servingStatus reads the enum in field 1 of a HealthCheckResponse; a field that
// is left out is 0.
func servingStatus(reply []byte) (uint64, error) {
	const prefix = 5
	if len(reply) < prefix || reply[0] != 0 || binary.BigEndian.Uint32(reply[1:]) != uint32(len(reply)-prefix) {
		return 0, errReply
	}
	body := reply[prefix:]
	if len(body) == 0 {
		return 0, nil
	}
	serving, n := binary.Uvarint(body[1:])
	if body[0] != 1<<3 || n <= 0 {
		return 0, errReply
	}
	return serving, nil
}
