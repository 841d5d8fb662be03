// SPDX-License-Identifier: Apache-2.0

package health

// Family is what a check or a problem is about. The text is what status shows.
type Family string

// Families with one thing.
const (
	Addresses    Family = "addresses"     // listing this node's own addresses
	Announcement Family = "announce"      // signing this node's own record
	Descriptors  Family = "descriptors"   // as many in use as connections may take
	Memory       Family = "memory"        // likewise
	Exchange     Family = "exchange"      // hearing what another member knows, since the start
	Files        Family = "service files" // parsing the service files
	Audit        Family = "audit log"     // writing the log of changes
	FilesOnDisk  Family = "service files on disk"
	HeldFiles    Family = "held files"          // keeping which service files wait for a yes
	Host         Family = "sysctls"             // settings of the host
	LanePorts    Family = "lane ports"          // lane ports at further addresses
	Loops        Family = "event loops"         // carrying bytes without a stop
	Look         Family = "programs and routes" // looking whether they are as they were set
	Maps         Family = "maps"                // writing the kernel's maps
	MapsUnread   Family = "maps unread"         // reading the kernel's maps back
	Names        Family = "names"               // keeping names of the mesh on this host
	OtherRoutes  Family = "routes of others"    // routes that take captured connections away
	Place        Family = "daemon's cgroup"
	Ports        Family = "ports"            // sockets at the daemon's ports
	Proven       Family = "proven addresses" // keeping which addresses nodes have proven
	Remotes      Family = "remotes"          // keeping the addresses of instances elsewhere
	Resolvers    Family = "resolv.conf"
	Revision     Family = "revision" // announcing that the policy is in force here
	Routes       Family = "routes and rules"
	Services     Family = "services"        // reading the registered services
	Places       Family = "places"          // keeping which workloads are in other network namespaces
	Sessions     Family = "exempt sessions" // keeping the exempt connections
	State        Family = "state"           // keeping records on disk
	StateCopy    Family = "copies of state" // keeping the second generation of what a start needs
	StateBehind  Family = "state behind"    // records may be missing since the start
	Sweep        Family = "sweep"           // cutting connections that are no longer allowed
)

// Families with a thing each.
const (
	Certificate Family = "certificate" // renewal, by service or "this node"
	Excluded    Family = "exclude"     // an exclusion that a service overrides, by "port 22", "uid 7"
	Gossip      Family = "gossip with" // cut off because it floods this node, by member
	Grant       Family = "grant"       // by service
	Held        Family = "held"        // a definition that waits for a yes, by instance id
	Hook        Family = "hook"        // by program
	Ingress     Family = "ingress"     // by name without the prefix
	Listener    Family = "listener"    // of the daemon's own, by name and address family
	KeyFile     Family = "key"         // that belongs on this node and isn't there, by file
	Map         Family = "map"         // by map
	Outside     Family = "outside"     // a real name or address of an outside service that doesn't count, by itself
	Port        Family = "port"        // claimed by two services, by number
	Publish     Family = "publish"     // an instance that can't be announced, by instance id
	Quota       Family = "quota"       // a node of whose records some are refused, by name
	Resolve     Family = "resolve"     // a real name that can't be looked up, by itself
	Workload    Family = "workload"    // claimed by two services, by cgroup, namespace, uid or interface
)
