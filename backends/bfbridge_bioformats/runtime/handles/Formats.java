package bfbridge;

import java.io.IOException;
import java.util.Deque;
import java.util.Locale;
import java.util.Set;
import java.util.concurrent.ConcurrentLinkedDeque;
import loci.common.Location;
import loci.formats.FormatException;
import loci.formats.IFormatReader;
import loci.formats.ImageReader;
import loci.formats.UnknownFormatException;

/** Finds the reader class of a file, as loci.formats.ImageReader does. */
public final class Formats {

  private static final int KEPT = 2;
  private static final Deque<ImageReader> DETECTORS = new ConcurrentLinkedDeque<>();
  private static final Set<String> NEED_GUARD = Set.of("BDVReader", "CellH5Reader");

  private static boolean guarded = true;

  static {
    try {
      Services.install();
    } catch (Exception | LinkageError e) {
      // Another version of Bio-Formats, or one without HDF5: these two readers are omitted.
      guarded = false;
    }
  }

  private Formats() {}

  /**
   * Returns the name of the class of the first reader in Bio-Formats' list that accepts the file.
   *
   * @param map the files that Location sees, or null for a name without a file. Each reader sees only the
   *     tree of its own format. At the end, the map has the tree of the format that was found.
   */
  public static String readerOf(String id, FileMap map) throws FormatException, IOException {
    ImageReader detector = DETECTORS.poll();
    if (detector == null) {
      // Creates one reader of each of about 170 classes.
      detector = new ImageReader();
    }
    try {
      if (map == null) {
        return detector.getReader(id).getClass().getName();
      }
      map.detect(true);
      return find(detector.getReaders(), id, map);
    } finally {
      if (map != null) {
        map.detect(false);
      }
      detector.close();
      if (DETECTORS.size() < KEPT) {
        DETECTORS.add(detector);
      }
    }
  }

  private static String find(IFormatReader[] readers, String id, FileMap map)
      throws FormatException, IOException {
    Location.checkValidId(id);
    // Names of files that are still being copied, which ImageReader skips too.
    if (!id.toLowerCase(Locale.ROOT).endsWith(".filepart")) {
      for (IFormatReader reader : readers) {
        String name = reader.getClass().getSimpleName();
        map.access().setFormat(name);
        if ((guarded || !NEED_GUARD.contains(name)) && takes(reader, id)) {
          map.requireBelow(name);
          return reader.getClass().getName();
        }
      }
    }
    throw new UnknownFormatException("Unknown file format: " + id);
  }

  private static boolean takes(IFormatReader reader, String id) {
    try {
      return reader.isThisType(id, true);
    } catch (Exception e) {
      return false;
    }
  }
}
