package bfbridge;

import java.io.Closeable;
import java.io.File;
import java.util.HashMap;
import java.util.LinkedHashSet;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;

/**
 * What a thread's loci.common.Location takes for files, in place of the disk.
 *
 * Location hands the same object to every stream that is opened on a name; streams would then share
 * one position and byte order. This map makes a new handle for each.
 */
public final class FileMap extends HashMap<String, Object> implements Closeable {

  private static final long serialVersionUID = 1L;

  private final transient Map<String, Source> sources = new ConcurrentHashMap<>();
  private final transient Map<String, Object> others = new ConcurrentHashMap<>();
  private final boolean local;
  private transient volatile byte[] watched;
  private volatile int cutShort;
  private volatile int ranOut;
  private volatile int reads;
  private volatile int round;

  /**
   * @param local whether files on disk are read through this map as well, to watch over the reads
   */
  public FileMap(boolean local) {
    this.local = local;
  }

  /** Adds a file under an absolute name. */
  public void add(String name, Source source) {
    sources.put(name, source);
  }

  /** Watches an array that pixels are about to be read into, or null; forgets what was seen. */
  public void watch(byte[] array) {
    watched = array;
    cutShort = 0;
    ranOut = 0;
    reads = 0;
    round++;
  }

  /** How often `watch` was called: what came before counts no more. */
  int round() {
    return round;
  }

  /** How often a file ended while it was read straight into the watched array. */
  public int timesCutShort() {
    return cutShort;
  }

  /** How often a file ended before as many bytes as were asked for, into whatever array. */
  public int timesRunOut() {
    return ranOut;
  }

  /** How often anything was read. */
  public int timesRead() {
    return reads;
  }

  void ended(byte[] array) {
    ranOut++;
    if (array != null && array == watched) {
      cutShort++;
    }
  }

  void read() {
    reads++;
  }

  @Override
  public Object get(Object key) {
    if (!(key instanceof String)) {
      return null;
    }
    Object mapped = others.get(key);
    if (mapped != null) {
      return mapped;
    }
    Source source = sources.get(key);
    if (source == null && local) {
      source = onDisk((String) key);
    }
    return source == null ? null : new Handle(source, this);
  }

  @Override
  public boolean containsKey(Object key) {
    return get(key) != null;
  }

  /** What readers map themselves: parts of a file that are files of another format. */
  @Override
  public Object put(String key, Object value) {
    return others.put(key, value);
  }

  @Override
  public Object remove(Object key) {
    return others.remove(key);
  }

  @Override
  public Set<String> keySet() {
    Set<String> names = new LinkedHashSet<>(others.keySet());
    if (!local) {
      names.addAll(sources.keySet());
    }
    return names;
  }

  private Source onDisk(String name) {
    String lower = name.toLowerCase(Locale.ROOT);
    // Location decompresses these on its own. Not .zip: one without entries would hold it for ever,
    // and ZipReader wants the file as it is.
    if (lower.endsWith(".gz") || lower.endsWith(".bz2")) {
      return null;
    }
    File file = new File(name);
    if (!file.isFile()) {
      return null;
    }
    return sources.computeIfAbsent(name, key -> new LocalSource(file));
  }

  @Override
  public void close() {
    for (Source source : sources.values()) {
      source.close();
    }
    sources.clear();
    others.clear();
  }
}
