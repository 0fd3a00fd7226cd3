"""MEDOE: multi-expert decoder and output ensemble for segmentation."""
