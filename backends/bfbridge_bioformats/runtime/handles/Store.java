package bfbridge;

import java.io.IOException;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import loci.common.services.DependencyException;
import loci.common.services.ServiceException;
import loci.common.services.ServiceFactory;
import loci.formats.FormatException;
import loci.formats.IFormatReader;
import loci.formats.ome.OMEXMLMetadata;
import loci.formats.services.OMEXMLService;

/**
 * A reader's metadata store, with the few methods that Python calls.
 *
 * Its interface has a thousand methods; loading them into Python takes 0.1 s.
 */
public final class Store {

  private final OMEXMLService service;
  private final OMEXMLMetadata metadata;

  /**
   * @param images maximum number of images
   * @param channels maximum number of channels of all images
   * @param planes maximum number of planes of all images
   */
  public Store(int images, int channels, int planes) throws DependencyException {
    service = new ServiceFactory().getInstance(OMEXMLService.class);
    metadata = new Bounded(images, channels, planes);
  }

  /** Makes a reader fill this store when it opens a file. */
  public void fillFrom(IFormatReader reader) {
    reader.setMetadataStore(metadata);
  }

  /**
   * Opens a file.
   *
   * @param store the store that the reader fills, or null
   */
  public static void open(IFormatReader reader, String id, Store store)
      throws FormatException, IOException {
    try {
      reader.setId(id);
    } catch (OutOfMemoryError e) {
      // The reader and the store may use all of the heap.
      drop(reader, store);
      throw OutOfHeap.INSTANCE;
    }
  }

  private static void drop(IFormatReader reader, Store store) {
    try {
      if (store != null) {
        store.metadata.createRoot();
      }
      reader.close();
    } catch (IOException | Error e) {
      // Its creator releases it, too.
      return;
    }
  }

  /** Returns the whole store as OME-XML. */
  public String xml() throws ServiceException {
    try {
      return service.getOMEXML(metadata);
    } catch (OutOfMemoryError e) {
      throw OutOfHeap.INSTANCE;
    }
  }

  /** Returns the numbers of the series in which Z, C or T contains a further axis. */
  public static int[] seriesWithModulo(IFormatReader reader) {
    return IntStream.range(0, reader.getSeriesCount()).filter(number -> {
      reader.setSeries(number);
      return Stream.of(reader.getModuloZ(), reader.getModuloC(), reader.getModuloT())
          .anyMatch(modulo -> modulo != null && modulo.length() > 1);
    }).toArray();
  }

  /** Returns the description of all series of the reader that filled this store: see Records. */
  public byte[] describe(IFormatReader reader) {
    try {
      return Records.describe(reader, metadata);
    } catch (OutOfMemoryError e) {
      drop(reader, this);
      throw OutOfHeap.INSTANCE;
    }
  }
}
