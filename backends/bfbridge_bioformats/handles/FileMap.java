package bfbridge;

import java.io.Closeable;
import java.io.File;
import java.util.HashMap;
import java.util.Locale;
import java.util.Map;
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
  private final boolean local;
  private transient volatile byte[] watched;
  private volatile boolean cutShort;
  private volatile boolean ranOut;

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

  /** Watches an array that pixels are about to be read into. */
  public void watch(byte[] array) {
    watched = array;
    cutShort = false;
    ranOut = false;
  }

  /** Whether a file ended while it was read straight into the watched array. */
  public boolean wasCutShort() {
    return cutShort;
  }

  /** Whether a file ended before as many bytes as were asked for, into whatever array. */
  public boolean hasRunOut() {
    return ranOut;
  }

  void ended(byte[] array) {
    ranOut = true;
    if (array != null && array == watched) {
      cutShort = true;
    }
  }

  @Override
  public Object get(Object key) {
    if (!(key instanceof String)) {
      return null;
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

  @Override
  public Object put(String key, Object value) {
    throw new UnsupportedOperationException("use add");
  }

  @Override
  public Object remove(Object key) {
    return null;
  }

  private Source onDisk(String name) {
    String lower = name.toLowerCase(Locale.ROOT);
    // Location decompresses these on its own.
    if (lower.endsWith(".gz") || lower.endsWith(".bz2") || lower.endsWith(".zip")) {
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
  }
}
