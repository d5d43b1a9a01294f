package dev.pges;

import java.io.PrintStream;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Map;
import java.util.Set;
import org.elasticsearch.common.logging.LogConfigurator;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.env.Environment;
import org.elasticsearch.node.Node;
import org.elasticsearch.plugins.PluginsLoader;

/**
 * Runs one node until it is told to stop (SIGTERM).
 *
 * <p>Usage: {@code java -cp "HOME/lib/*" dev.pges.EsNode HOME [setting=value ...]}. Settings on the command line
 * win over those in {@code HOME/config/elasticsearch.yml}.
 */
public final class EsNode {
    private EsNode() {}

    public static void main(String[] args) {
        // LogConfigurator replaces System.out and System.err: kept, or a failed start prints nothing.
        PrintStream err = System.err;
        try {
            Node node = node(Path.of(args[0]).toAbsolutePath(), Arrays.copyOfRange(args, 1, args.length));
            Runtime.getRuntime().addShutdownHook(new Thread(() -> close(node, err)));
            node.start();
            Thread.currentThread().join();
        } catch (Throwable t) {
            t.printStackTrace(err);
            System.exit(1);
        }
    }

    private static Node node(Path home, String[] overrides) throws Exception {
        Path config = home.resolve("config");
        Settings.Builder settings = Settings.builder()
            .loadFromPath(config.resolve("elasticsearch.yml"))
            .put("path.home", home);
        for (String override : overrides) {
            String[] pair = override.split("=", 2);
            settings.put(pair[0], pair[1]);
        }
        Environment environment = new Environment(settings.build(), config);
        LogConfigurator.setNodeName(environment.settings().get("node.name"));
        LogConfigurator.configure(environment, true);
        return new Node(
            environment,
            PluginsLoader.createPluginsLoader(
                PluginsLoader.loadModulesBundles(environment.modulesDir()), Set.of(), Map.of(), false));
    }

    private static void close(Node node, PrintStream err) {
        try {
            node.close();
        } catch (Exception e) {
            e.printStackTrace(err);
        }
    }
}
