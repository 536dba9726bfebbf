// Package processes runs routers on PGMQ as they are deployed: in processes of their own, which
// are signalled, killed and started again. It has nothing but tests. The timing of routers is
// tested in package ezq.
package processes
