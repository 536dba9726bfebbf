package cluster

import (
	"fmt"
	"os"
	"os/exec"
)

// SmallDisk mounts a disk of so many megabytes and makes it the tablespace of that name. It is
// gone when the test ends.
//
// To mount one takes rights that few have; without them the test is skipped, saying so.
func (c *Cluster) SmallDisk(tablespace string, megabytes int) {
	c.tb.Helper()
	disk := c.path(tablespace)
	c.check(os.Mkdir(disk, 0o700))
	size := fmt.Sprintf("size=%dm", megabytes)
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", size, "tmpfs", disk).CombinedOutput(); err != nil {
		c.tb.Skipf("a small disk cannot be mounted, which needs root: %v: %s", err, out)
	}
	c.tb.Cleanup(func() { // before the server is stopped, which still uses it
		if out, err := exec.Command("umount", "-l", disk).CombinedOutput(); err != nil {
			c.tb.Errorf("umount: %v: %s", err, out)
		}
	})
	c.give(disk)
	c.Execute(fmt.Sprintf("create tablespace %s location '%s'", tablespace, disk))
}
