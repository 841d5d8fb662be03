// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strconv"
)

// Client calls the daemon's Backend through the socket, one method for each
// command. Every error is an *Error.
type Client struct {
	socket string
	http   *http.Client
}

const maxAnswer = 64 << 20 // bytes

// NewClient returns a client of the daemon at socket. Each request has a connection
// of its own.
func NewClient(socket string) *Client {
	var d net.Dialer
	return &Client{socket, &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.DialContext(ctx, "unix", socket)
		},
	}}}
}

// Status is GET /v1/status.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	return query[*Status](ctx, c, "status", nil)
}

// Confirm is POST /v1/confirm.
func (c *Client) Confirm(ctx context.Context, r ConfirmRequest) (*ConfirmResult, error) {
	return send[*ConfirmResult](ctx, c, "confirm", &r)
}

// Resolve is GET /v1/resolve.
func (c *Client) Resolve(ctx context.Context, name string) (*Resolution, error) {
	return query[*Resolution](ctx, c, "resolve", url.Values{"name": {name}})
}

// Flows is GET /v1/flows.
func (c *Client) Flows(ctx context.Context, q FlowQuery) (*FlowList, error) {
	if err := q.Check(); err != nil {
		return nil, AsError(err)
	}
	return query[*FlowList](ctx, c, "flows", q.Values())
}

// Audit is GET /v1/audit.
func (c *Client) Audit(ctx context.Context, after uint64) (*AuditList, error) {
	return query[*AuditList](ctx, c, "audit", url.Values{"after": {strconv.FormatUint(after, 10)}})
}

// Nodes is GET /v1/nodes.
func (c *Client) Nodes(ctx context.Context) ([]Node, error) {
	return query[[]Node](ctx, c, "nodes", nil)
}

// Node is GET /v1/node.
func (c *Client) Node(ctx context.Context, name Name) (*Node, error) {
	if err := fold("node", &name); err != nil {
		return nil, err
	}
	return query[*Node](ctx, c, "node", url.Values{"name": {string(name)}})
}

// GrantNode is POST /v1/node/grant.
func (c *Client) GrantNode(ctx context.Context, r GrantRequest) (*NodeResult, error) {
	return send[*NodeResult](ctx, c, "node/grant", &r)
}

// Keys is GET /v1/keys.
func (c *Client) Keys(ctx context.Context) ([]Key, error) {
	return query[[]Key](ctx, c, "keys", nil)
}

// OfferOperator is POST /v1/operator/offer.
func (c *Client) OfferOperator(ctx context.Context, r OfferRequest) (*Offer, error) {
	return send[*Offer](ctx, c, "operator/offer", &r)
}

// AddOperator is POST /v1/operator/add.
func (c *Client) AddOperator(ctx context.Context, r OperatorAddition) (*Key, error) {
	return send[*Key](ctx, c, "operator/add", &r)
}

// Revoke is POST /v1/revoke.
func (c *Client) Revoke(ctx context.Context, r Revocation) (*RevocationResult, error) {
	return send[*RevocationResult](ctx, c, "revoke", &r)
}

// ExportRoot is POST /v1/ca/export-root.
func (c *Client) ExportRoot(ctx context.Context, r RootExport) (*RootKey, error) {
	return send[*RootKey](ctx, c, "ca/export-root", &r)
}

// DropRoot is POST /v1/ca/drop-root.
func (c *Client) DropRoot(ctx context.Context, r RootCopy) (*RootDropped, error) {
	return send[*RootDropped](ctx, c, "ca/drop-root", &r)
}

// CreateToken is POST /v1/tokens.
func (c *Client) CreateToken(ctx context.Context, r TokenRequest) (*Token, error) {
	return send[*Token](ctx, c, "tokens", &r)
}

// Services is GET /v1/services.
func (c *Client) Services(ctx context.Context) ([]Service, error) {
	return query[[]Service](ctx, c, "services", nil)
}

// Service is GET /v1/service.
func (c *Client) Service(ctx context.Context, name Name) (*Service, error) {
	if err := foldSource("service", &name); err != nil {
		return nil, err
	}
	return query[*Service](ctx, c, "service", url.Values{"name": {string(name)}})
}

// Register is POST /v1/service/register.
func (c *Client) Register(ctx context.Context, r Registration) (*RegisterResult, error) {
	return send[*RegisterResult](ctx, c, "service/register", &r)
}

// Deregister is POST /v1/service/deregister.
func (c *Client) Deregister(ctx context.Context, r Deregistration) (*DeregisterResult, error) {
	return send[*DeregisterResult](ctx, c, "service/deregister", &r)
}

// ReportCheck is POST /v1/service/check.
func (c *Client) ReportCheck(ctx context.Context, r CheckReport) (*CheckReported, error) {
	return send[*CheckReported](ctx, c, "service/check", &r)
}

// Run is POST /v1/run; it moves the calling process.
func (c *Client) Run(ctx context.Context, r RunRequest) (*RunResult, error) {
	return send[*RunResult](ctx, c, "run", &r)
}

// Intentions is GET /v1/intentions.
func (c *Client) Intentions(ctx context.Context) (*IntentionList, error) {
	return query[*IntentionList](ctx, c, "intentions", nil)
}

// ChangeIntention is POST /v1/intentions.
func (c *Client) ChangeIntention(ctx context.Context, r IntentionChange) (*ChangeResult, error) {
	return send[*ChangeResult](ctx, c, "intentions", &r)
}

// Apply is POST /v1/apply.
func (c *Client) Apply(ctx context.Context, r ApplyRequest) (*ApplyResult, error) {
	return send[*ApplyResult](ctx, c, "apply", &r)
}

// CheckIntention is GET /v1/intentions/check.
func (c *Client) CheckIntention(ctx context.Context, source, destination Name) (*Verdict, error) {
	if err := first(foldSource("source", &source), fold("destination", &destination)); err != nil {
		return nil, err
	}
	return query[*Verdict](ctx, c, "intentions/check", pairValues(source, destination))
}

// ExplainIntention is GET /v1/intentions/explain.
func (c *Client) ExplainIntention(ctx context.Context, source, destination Name) (*Explanation, error) {
	if err := first(foldSource("source", &source), fold("destination", &destination)); err != nil {
		return nil, err
	}
	return query[*Explanation](ctx, c, "intentions/explain", pairValues(source, destination))
}

func pairValues(source, destination Name) url.Values {
	return url.Values{"source": {string(source)}, "destination": {string(destination)}}
}

func query[A any](ctx context.Context, c *Client, path string, values url.Values) (A, error) {
	return do[A](ctx, c, http.MethodGet, path+"?"+values.Encode(), nil)
}

// send checks a request as the server does, before anything is connected to.
func send[A any](ctx context.Context, c *Client, path string, request interface{ check() error }) (none A, err error) {
	if err := request.check(); err != nil {
		return none, err
	}
	body, err := json.Marshal(request)
	if err != nil {
		return none, Failed("", "can't encode the request: %v", err)
	}
	return do[A](ctx, c, http.MethodPost, path, body)
}

func do[A any](ctx context.Context, c *Client, method, path string, body []byte) (answer A, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://tacitd/v1/"+path, bytes.NewReader(body))
	if err != nil {
		return answer, Failed("", "%v", err)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return answer, c.unreachable(err)
	}
	defer res.Body.Close()
	return decode[A](res)
}

func decode[A any](res *http.Response) (answer A, err error) {
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return answer, Failed("", "tacitd's answer ended early: %v", err)
	}
	if res.StatusCode != http.StatusOK {
		var e Error
		if json.Unmarshal(text, &e) != nil || e.Message == "" || (e.Code != CodeRefused && e.Code != CodeError) {
			return answer, Failed("are tacit and tacitd of the same version?", "tacitd answered %s", res.Status)
		}
		return answer, &e
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return answer, Failed("are tacit and tacitd of the same version?", "can't decode tacitd's answer: %v", err)
	}
	return answer, nil
}

// unreachable explains in one line why the daemon can't be reached, and what to do.
func (c *Client) unreachable(err error) error {
	where := "cannot reach tacitd at " + c.socket
	switch op, isDial := errors.AsType[*net.OpError](err); {
	case errors.Is(err, context.Canceled):
		return Failed("", "interrupted")
	case errors.Is(err, context.DeadlineExceeded):
		return Failed("", "tacitd at %s doesn't answer", c.socket)
	case errors.Is(err, fs.ErrPermission):
		return Failed("", "%s: permission denied: run it as root or as a member of the group %s", where, Group)
	case isDial && op.Op == "dial":
		return Failed("", "%s: is it running? start it with: systemctl start tacitd", where)
	}
	return Failed("", "%s: it closed the connection before it answered: %v", where, unwrapURL(err))
}

func unwrapURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}
