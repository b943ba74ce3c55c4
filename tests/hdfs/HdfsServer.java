import java.io.File;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.hdfs.MiniDFSCluster;

/** An HDFS of one name node and one data node below a directory, on free ports of the loopback. */
public final class HdfsServer {
    public static void main(String[] words) throws Exception {
        Configuration settings = new Configuration();
        // Small blocks, so that a small file has several.
        settings.set("dfs.blocksize", "1048576");
        settings.set("dfs.namenode.fs-limits.min-block-size", "1048576");
        settings.set("dfs.replication", "1");
        settings.set("dfs.permissions.enabled", "true");
        MiniDFSCluster cluster =
                new MiniDFSCluster.Builder(settings, new File(words[0])).numDataNodes(1).build();
        cluster.waitActive();
        int http = cluster.getNameNode().getHttpAddress().getPort();
        System.out.println("ready " + cluster.getNameNodePort() + " " + http);
        System.out.flush();
        // Until whoever started it goes away.
        while (System.in.read() >= 0) { }
        cluster.shutdown();
        System.exit(0);
    }
}
