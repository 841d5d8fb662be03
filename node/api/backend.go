// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"net/http"
)

// Backend is the daemon behind the server, by noun. Before it calls a method, the
// server checks names, puts them in lower case, and limits sizes; the method
// checks everything else. An error that is neither an *Error nor a
// *policy.Refusal reaches the CLI as an error with exit status 2. Methods are
// called concurrently, and ctx ends when the client disconnects.
type Backend struct {
	Host       Host
	Nodes      Nodes
	Services   Services
	Intentions Intentions
	Audit      Audit
	Keys       Keys
	Metrics    http.Handler // nil: none are served here
}

// Host is this node as a whole.
type Host interface {
	Status(ctx context.Context) (*Status, error)
	Resolve(ctx context.Context, name string) (*Resolution, error)
	// Confirm makes a start with --confirm permanent.
	Confirm(ctx context.Context, r ConfirmRequest) (*ConfirmResult, error)
	// Flows lists the records and live connections that are asked for.
	Flows(ctx context.Context, q FlowQuery) (*FlowList, error)
}

// Nodes are the members of the mesh.
type Nodes interface {
	List(ctx context.Context) ([]Node, error)
	Show(ctx context.Context, name Name) (*Node, error)
	Grant(ctx context.Context, r GrantRequest) (*NodeResult, error)
	CreateToken(ctx context.Context, r TokenRequest) (*Token, error)
}

// Keys are the keys of the mesh.
type Keys interface {
	List(ctx context.Context) ([]Key, error)
	Offer(ctx context.Context, r OfferRequest) (*Offer, error)
	AddOperator(ctx context.Context, r OperatorAddition) (*Key, error)
	Revoke(ctx context.Context, r Revocation) (*RevocationResult, error)
	ExportRoot(ctx context.Context, r RootExport) (*RootKey, error)
	DropRoot(ctx context.Context, r RootCopy) (*RootDropped, error)
}

// Services are the services of the mesh, and this node's instances.
type Services interface {
	List(ctx context.Context) ([]Service, error)
	Show(ctx context.Context, name Name) (*Service, error)
	Register(ctx context.Context, r Registration) (*RegisterResult, error)
	Deregister(ctx context.Context, r Deregistration) (*DeregisterResult, error)
	// Report tells the status of a ttl check of this node.
	Report(ctx context.Context, r CheckReport) (*CheckReported, error)
	// Run moves the peer of ctx (PeerFrom) into the workload's cgroup.
	Run(ctx context.Context, r RunRequest) (*RunResult, error)
}

// Intentions are the policy. Check and Explain take service names, never "*".
type Intentions interface {
	List(ctx context.Context) (*IntentionList, error)
	Change(ctx context.Context, r IntentionChange) (*ChangeResult, error)
	// Apply makes many changes at once, all or none.
	Apply(ctx context.Context, r ApplyRequest) (*ApplyResult, error)
	Check(ctx context.Context, source, destination Name) (*Verdict, error)
	Explain(ctx context.Context, source, destination Name) (*Explanation, error)
}
